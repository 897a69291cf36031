"""Are the verdicts of the audit true? Data whose truth is known, and that no phantom drew."""
