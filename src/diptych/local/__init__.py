"""What local engines share: finding checkpoints, devices, one worker thread per device, pixels.

Nothing here is imported before a local model is named, and torch not before one runs.
"""
