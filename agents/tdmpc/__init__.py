"""TD-MPC: Hansen, Wang, Su, "Temporal Difference Learning for Model Predictive Control", ICML 2022."""
