"""From a file to scaled arrays: where a table comes from, whether it is sound, and its features on one scale.

Never trains, never repairs a value, never scales or splits unasked.
"""
