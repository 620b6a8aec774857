"""The running process: kopf handlers, leader election, controller, reconciliation, metrics and logs."""
