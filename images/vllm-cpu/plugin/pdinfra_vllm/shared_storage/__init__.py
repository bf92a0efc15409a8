"""KV that engines hand over through a folder which all of them see."""
