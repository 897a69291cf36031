"""Tools of the people who work on fastgan; nothing of it is installed."""
