"""Judgements on generated volumes: how well they match held-out patients, and what they copy."""
