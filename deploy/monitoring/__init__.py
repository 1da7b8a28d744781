"""What watches the service from outside: rules for Prometheus, and a dashboard for Grafana."""
