"""The way in from outside: calls by host name through an Ingress, and whether it can work."""

from pytest_grpclb.ingress.live import Ingress

__all__ = ["Ingress"]
