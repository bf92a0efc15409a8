"""openYuanrong's full mode: what is run, with which environment, and what its answers mean.

Standard library only, and no import of other parts of pdinfra: this folder is copied into the
engines' container, where ``python3 -m pdinfra.yuanrong`` drives ``yr`` and the deployment script.
"""
