"""The gradient lab: where every trial can be written down, which way does an estimator point?"""
