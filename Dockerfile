# Ordermill in one image: its command says whether it is migrate, a worker, beat, Flower or metrics.
#
#   docker build -t ordermill .
#
# Where a build reaches the package index only over the machine's own network, add `--network host`.
ARG PYTHON=3.11-slim

FROM python:${PYTHON} AS build
WORKDIR /build
# No pip in what is shipped: this stage's own installs into it.
RUN python3 -m venv --without-pip /opt/ordermill
COPY deploy/requirements.lock deploy/
RUN pip --python /opt/ordermill/bin/python install --quiet --no-cache-dir --no-deps --require-hashes \
    -r deploy/requirements.lock
COPY requirements.lock ./
RUN awk '/^[a-z]/ { tool = /^(hatchling|packaging|pathspec|pluggy|trove-classifiers)==/ } tool' requirements.lock >tools.lock \
    && pip install --quiet --no-cache-dir --no-deps --require-hashes -r tools.lock
COPY pyproject.toml README.md LICENSE beat_schedule.py ./
COPY sql sql
COPY tasks tasks
COPY workers workers
RUN pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/ordermill/bin/python install --quiet --no-cache-dir --no-deps dist/*.whl

FROM python:${PYTHON}
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/ordermill --shell /usr/sbin/nologin ordermill \
    && install --directory --owner ordermill --mode 0750 \
        /var/lib/ordermill /var/lib/ordermill/metrics /var/lib/ordermill/archive
COPY --from=build /opt/ordermill /opt/ordermill
ENV PATH=/opt/ordermill/bin:$PATH PYTHONUNBUFFERED=1 \
    ORDERMILL_HOME=/tmp/ordermill ORDERMILL_ALIVE_FILE=/tmp/alive
USER ordermill
WORKDIR /var/lib/ordermill
# Workers and beat touch this file as long as they do their work. Reading its age costs no CPU that could be seen, where
# `celery inspect ping` costs two seconds of it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=2 \
    CMD test -n "$(find "$ORDERMILL_ALIVE_FILE" -mmin -0.5)"
CMD ["ordermill", "--help"]
