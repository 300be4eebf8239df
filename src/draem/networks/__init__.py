"""The two sub-networks of DRAEM and the model that joins them. Needs torch."""
