"""`schematic-native bench`: what a check and a settle cost on this machine, beside the published SDK."""
