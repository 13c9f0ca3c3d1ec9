"""An application that consumes, transforms and produces, in a process of its own: `python -m tests.failover.copier`.

It copies records from one topic to another in transactions that hold its place in the input, by one of three client
libraries, and says on its standard output what it does. It is there to be killed.
"""
