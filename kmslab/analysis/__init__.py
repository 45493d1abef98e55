"""What is known of records without opening them: outcomes, census, forecast."""

from kmslab.analysis.census import Census as Census
from kmslab.analysis.census import CensusRow as CensusRow
from kmslab.analysis.census import census as census
from kmslab.analysis.classify import DROP as DROP
from kmslab.analysis.classify import STAY as STAY
from kmslab.analysis.classify import Classifier as Classifier
from kmslab.analysis.classify import Drop as Drop
from kmslab.analysis.classify import Outcome as Outcome
from kmslab.analysis.classify import Target as Target
from kmslab.analysis.classify import Verdict as Verdict
from kmslab.analysis.classify import classify as classify
from kmslab.analysis.forecast import DOCUMENTED_RATE as DOCUMENTED_RATE
from kmslab.analysis.forecast import Forecast as Forecast
from kmslab.analysis.forecast import ProviderForecast as ProviderForecast
from kmslab.analysis.forecast import action_name as action_name
from kmslab.analysis.forecast import calls_by_action as calls_by_action
from kmslab.analysis.forecast import calls_by_provider as calls_by_provider
from kmslab.analysis.forecast import calls_needed as calls_needed
from kmslab.analysis.forecast import comparing as comparing
from kmslab.analysis.forecast import forecast as forecast
from kmslab.analysis.forecast import rights_needed as rights_needed
from kmslab.analysis.verify import Verify as Verify
