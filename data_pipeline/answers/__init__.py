"""Reads the labels that an answer of a model settles on, whatever form the answer has."""
