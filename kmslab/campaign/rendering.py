"""Reports as Markdown and as HTML."""

from kmslab.campaign.report import Report


def html(report: Report) -> str:
    """x"""
    return str(report)


def markdown(report: Report) -> str:
    """x"""
    return str(report)
