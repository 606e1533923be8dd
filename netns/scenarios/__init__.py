"""One file per scenario; each ends with its SCENARIO. scenario.py lists their names."""
