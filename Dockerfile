# syntax=docker/dockerfile:1
# One image for each service (ARG SERVICE) and one for the commands (no SERVICE): the same layers but for the last.
FROM python:3.13-slim AS packages
COPY services.lock .
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /venv \
    && /venv/bin/pip install --disable-pip-version-check --quiet --require-hashes --requirement services.lock \
    && /venv/bin/pip uninstall --quiet --yes pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home retail
COPY --from=packages /venv /venv
WORKDIR /app
COPY schemas schemas
COPY migrations migrations
COPY retail_stream retail_stream
COPY services services
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 METRICS_PORT=9100
USER retail
ARG SERVICE
ENV SERVICE=$SERVICE
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9100/healthz', timeout=2)"]
CMD ["sh", "-c", "exec python -m services.$SERVICE"]
