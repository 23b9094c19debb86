"""What lies here is installed and run by tests/test_suite.py, in a process of its own."""

collect_ignore_glob = ["*"]
