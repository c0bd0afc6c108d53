"""What several estimators share: noise, enumerations of it, baselines, temperatures, surrogates."""
