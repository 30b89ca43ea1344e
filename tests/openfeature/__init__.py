"""The OpenFeature provider in the SDK itself, by the scenarios of the specification."""
