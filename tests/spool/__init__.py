"""The spool: usage that outlives its process, by real processes and real files."""
