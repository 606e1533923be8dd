"""The network-namespace lab: real nodes, real TAPs, real links, on one machine.

`python -m netns list` names the scenarios; `python -m netns run NAME` runs one. docs of the parts: lab.py.
"""
