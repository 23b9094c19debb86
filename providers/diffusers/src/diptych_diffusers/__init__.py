"""Local diffusion models, for diptych."""
