"""Campaigns: plan, run, verify, report and undo over what is stored."""
