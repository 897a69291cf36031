"""The report of an audit: report.json, one page, and cards."""
