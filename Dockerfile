FROM python:3.13-slim

WORKDIR /opt/ottla
COPY pyproject.toml README.md ./
COPY ottla ottla
COPY broker broker
COPY controller controller
COPY client client
RUN pip install --no-cache-dir . \
 && useradd --system --uid 1000 --create-home appuser \
 && mkdir -p /var/lib/ottla \
 && chown appuser /var/lib/ottla

USER appuser
ENV KAFKA_LOG_DIRS=/var/lib/ottla/data
VOLUME /var/lib/ottla
EXPOSE 9092 19092 9093 8080

# The configuration comes from KAFKA_* variables; a file can be given with --config.
CMD ["ottla", "node"]
