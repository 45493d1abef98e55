"""Where records live, and how they are read."""

from kmslab.records.columns import DEFAULT_COLUMNS as DEFAULT_COLUMNS
from kmslab.records.columns import Columns as Columns
from kmslab.records.columns import ContextTemplate as ContextTemplate
from kmslab.records.files import read_csv as read_csv
