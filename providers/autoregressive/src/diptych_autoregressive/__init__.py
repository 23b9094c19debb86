"""Local autoregressive image models, for diptych."""
