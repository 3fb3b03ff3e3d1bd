"""mixlin: exact linear forecasters and mixtures of linear experts, scikit-learn style."""

__version__ = "0.1.0"
