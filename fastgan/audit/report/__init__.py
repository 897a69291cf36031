"""An audit is reported as report.json, one page, and cards."""
