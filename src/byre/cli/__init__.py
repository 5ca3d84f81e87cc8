"""The command line: one module for each verb. The only room that prints, exits or shows a traceback."""
