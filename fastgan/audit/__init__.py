"""The audit says whether generated volumes may be used: a wing a judgement, `run` for all."""
