# syntax=docker/dockerfile:1
# One image for each service (ARG PROGRAM, its module) and one for the commands (no PROGRAM): the same layers for all.
# PYTHON, the base image, comes from docker-compose.yml, where all versions are.
ARG PYTHON

FROM ${PYTHON} AS build
# Every file gets this time, and byte code names hashes instead of times: built again, the layers are the same.
ENV SOURCE_DATE_EPOCH=1735689600 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY services.lock .
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /venv \
    && python -m pip --python /venv/bin/python install --quiet --no-compile --require-hashes --requirement services.lock \
    && python -m compileall -q --invalidation-mode unchecked-hash /venv/lib \
    && find /venv -exec touch --no-dereference --date=@$SOURCE_DATE_EPOCH {} + \
    && mkdir /image && mv /venv /image/
WORKDIR /image/app
COPY docker/healthy.py .
COPY schemas schemas
COPY migrations migrations
COPY commands commands
COPY retail_stream retail_stream
COPY services services
# Readable by all and writable by root only, under any umask of the checkout.
RUN chmod -R a+rX,go-w . \
    && python -m compileall -q --invalidation-mode unchecked-hash -s /image -p / /image/app \
    && find . -exec touch --no-dereference --date=@$SOURCE_DATE_EPOCH {} +

FROM ${PYTHON}
# Their folder, not they themselves: a folder that COPY makes has the time of the build.
COPY --from=build /image /
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 METRICS_PORT=9100
# A number, so that anyone can see that it is not root; it needs no name and owns nothing.
USER 10001:10001
ARG PROGRAM
ENV PROGRAM=$PROGRAM
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["python", "-IS", "/app/healthy.py"]
CMD ["sh", "-c", "exec python -m $PROGRAM"]
