# The serving image: what answers requests, and nothing that trains. `tests/serving/test_image.py` runs these steps.
FROM python:3.11-slim AS build

COPY requirements/serving.txt requirements/serving.txt
RUN python -m venv /opt/segue
RUN /opt/segue/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: --requirement requirements/serving.txt
RUN /opt/segue/bin/python -m pip uninstall --quiet --yes pip

# The slim image has no C compiler, this one has. Of this stage the extensions are kept alone.
FROM python:3.11 AS native

WORKDIR /opt/source
COPY decisioning decisioning
COPY features features
COPY models models
COPY stores stores
COPY serving serving
RUN for source in $(find . -name '_*.c'); do \
    gcc -O3 -ffp-contract=off -shared -fPIC -I"$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')" "$source" \
    -o "${source%.c}$(python -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')" || exit 1; done
RUN mkdir /opt/native && cp --parents $(find . -name '*.so') /opt/native

FROM python:3.11-slim

ARG SEGUE_BUILD=unknown
# The home holds `releases` (mounted, or pulled into it) and `logs` (to be shipped). Set SEGUE_SECRET, REDIS_URL, and
# SEGUE_KEYS: the file that `segue keys` makes, in a folder that is mounted. Without keys it starts with SEGUE_OPEN=1
# alone, which is for a network where something else keeps strangers out. SEGUE_WORKERS: processes, one for each core.
ENV PATH=/opt/segue/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SEGUE_BUILD=$SEGUE_BUILD \
    SEGUE_HOME=/var/lib/segue \
    SEGUE_HOST=0.0.0.0 \
    SEGUE_PORT=8080

RUN useradd --system --uid 10001 --home-dir /var/lib/segue --create-home segue
COPY --from=build /opt/segue /opt/segue
WORKDIR /app
COPY decisioning decisioning
COPY features features
COPY models models
COPY stores stores
COPY serving serving
COPY --from=native /opt/native .
RUN python -m compileall -q .

USER segue
EXPOSE 8080
# Whichever worker answers: that all of them live, and none hangs, is the supervisor's work.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s \
    CMD ["python", "-c", "import os, urllib.request as web; web.urlopen(f'http://127.0.0.1:{os.environ[\"SEGUE_PORT\"]}/healthz', timeout=2)"]
# As a list, so that the supervisor itself gets the SIGTERM, and has its workers drain.
ENTRYPOINT ["python", "-m", "serving"]
