"""How the pocket models are made: `python -m training --help`, run from `providers/pocket`."""
