"""Raw observations of the facts module → facts. Pure; tested with captured outputs."""
