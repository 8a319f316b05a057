# Airflow with this project, and both environments installed from their locks:
#
#   docker build --build-arg CODE_VERSION="$(git rev-parse --short=12 HEAD)" --tag nightly-retrain .
#
# The base image's own Airflow is not used: the lock has every package with its hash, and a mix of the two would have
# untested versions.
# 50000 is the official image's user `airflow`, given by number so that a cluster can see that it is not root.
ARG BASE=apache/airflow:3.3.2-python3.12

FROM ${BASE} AS environments
USER 0
RUN install --directory --owner=50000 --group=0 /opt/nightly /opt/airflow
USER 50000
# The final folder of the project, because the environments contain its path.
WORKDIR /opt/airflow
# The builder keeps downloads between builds; they are not in an image.
ENV NIGHTLY_VENVS=/opt/nightly UV_LINK_MODE=copy XDG_CACHE_HOME=/opt/cache
COPY setup/ setup/
# Each environment after its own lock, so that a change to Airflow's does not rebuild the ML side (3 GB).
COPY requirements-ml.txt ./
# Debian 12 needs the private C runtime. A base with a newer glibc does not, but the COPY below needs the folder.
RUN --mount=type=cache,target=/opt/cache,uid=50000,gid=0 python3 -m setup ml slim && mkdir -p /opt/nightly/c-runtime
COPY requirements.txt ./
RUN --mount=type=cache,target=/opt/cache,uid=50000,gid=0 python3 -m setup airflow slim

FROM ${BASE}
COPY --from=environments /opt/nightly/c-runtime /opt/nightly/c-runtime
COPY --from=environments /opt/nightly/ml /opt/nightly/ml
COPY --from=environments /opt/nightly/airflow /opt/nightly/airflow
USER 0
# A new named volume takes owner and mode from the folder that it is mounted on.
RUN install --directory --owner=50000 --group=0 --mode=0775 /opt/airflow/var /opt/airflow/var/serving /models
USER 50000
WORKDIR /opt/airflow
ENV AIRFLOW_HOME=/opt/airflow \
    PATH=/opt/nightly/airflow/bin:${PATH} \
    VIRTUAL_ENV=/opt/nightly/airflow \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__CORE__DAG_DISCOVERY_SAFE_MODE=False \
    NIGHTLY_ML_PYTHON=/opt/nightly/ml/bin/python \
    NIGHTLY_VAR=/opt/airflow/var
COPY dags/ dags/
COPY plugins/ plugins/
COPY include/ include/
# Releases are verified with the project's own client.
COPY client/ client/
COPY server/ server/
# The commands; airflow.env is read by them.
COPY bin/ bin/
COPY airflow.env ./
# User 50000 cannot write bytecode here. Without this, every task and DAG parse would compile the project anew.
USER 0
RUN python -m compileall -q dags plugins include client server
USER 50000
ARG CODE_VERSION=unknown
ENV NIGHTLY_CODE_VERSION=${CODE_VERSION}

# Not the base's /entrypoint: it preloads the system's libstdc++, which is too old for TFDV.
ENTRYPOINT ["/usr/bin/dumb-init", "--"]
# All of Airflow in one container, on SQLite. docker-compose.yaml runs each component with its own health check.
CMD ["airflow", "standalone"]
HEALTHCHECK --start-period=120s --interval=30s --timeout=10s \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://localhost:8080/api/v2/monitor/health"]
