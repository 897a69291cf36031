"""Configurations that run as they are: `fastgan train --config examples/<name>.yaml`."""
