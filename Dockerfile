# Three images: docker build --target train|torchserve|gateway . (docs/images.md).
# They run as uid 10001 with a read-only root, and write in /tmp and /var/lib/npe only.

# Any image with Python 3.11 or newer and venv; name one by digest where builds have to repeat.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm


# What is installed is pinned by constraints.txt, also what packages are built with.
FROM ${BASE_IMAGE} AS build
# Such as PyTorch's index of CPU wheels, for torch without CUDA. What holds a password goes
# into the secret pip_conf, a pip.conf that stays in no layer.
ARG PIP_EXTRA_INDEX_URL
ENV PATH=/opt/pip/bin:$PATH \
    PIP_CONSTRAINT=/src/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_PYTHON=/opt/venv/bin/python \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# pip itself stays out of the environment that goes into the images.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv
COPY constraints.txt ./
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf pip install dumb-init

FROM build AS build-gateway
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    pip install '.[gateway]' && find /opt/venv -type d -name tests -prune -exec rm -r {} +
COPY serve/gateway /app/serve/gateway
COPY serve/editor /app/serve/editor
RUN chmod -R a+rX /app && python3 -m compileall -q /app

# torch goes first and by itself: its layer stays while all else changes. Its headers, its tests
# and the compilers of its message formats have no use here.
FROM build AS build-torch
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    pip install torch && cd /opt/venv/lib/python3*/site-packages/torch && rm -rf include test \
    && find bin -type f ! -name torch_shm_manager -delete
COPY pyproject.toml README.md LICENSE ./
COPY src src

FROM build-torch AS build-torchserve
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    pip install '.[worker,registry,s3,gcs]' \
    && find /opt/venv -type d -name tests -prune -exec rm -r {} +
COPY serve/child_process.py serve/config.properties serve/log4j2.xml serve/torchserve_process.py \
    serve/worker.py /app/serve/
RUN chmod -R a+rX /app && python3 -m compileall -q /app

FROM build-torch AS build-train
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    pip install '.[train,receipts,registry,s3,gcs]' \
    && find /opt/venv -type d -name tests -prune -exec rm -r {} +
COPY conf /app/conf
COPY pipelines /app/pipelines
COPY serve/handler.py serve/model-config.yaml /app/serve/
RUN chmod -R a+rX /app && python3 -m compileall -q /app


FROM ${BASE_IMAGE} AS runtime
ARG BASE_IMAGE
ARG REVISION=
LABEL org.opencontainers.image.version=0.1.0 \
      org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.base.name=${BASE_IMAGE}
# Nothing else is theirs, and no program of the base image gives more rights.
RUN echo 'npe:x:10001:10001::/var/lib/npe:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'npe:x:10001:' >> /etc/group \
    && mkdir /app /var/lib/npe && chown 10001:10001 /var/lib/npe \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/var/lib/npe \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
# As process 1 a program would not get signals that it does not handle yet, and would have to
# bury processes that others left behind. Signals go to the program alone: it knows its children.
ENTRYPOINT ["dumb-init", "--single-child", "--"]

FROM runtime AS train
LABEL org.opencontainers.image.title="Neural Photo Editor: training" \
      org.opencontainers.image.description="Prepares data, trains, evaluates, bundles, promotes"
# Runs and artifacts name the commit that they were made with.
ARG REVISION=
ENV NPE_GIT_COMMIT=${REVISION}
COPY --from=build-train /opt/venv /opt/venv
COPY --from=build-train /app /app
HEALTHCHECK NONE

FROM runtime AS torchserve
LABEL org.opencontainers.image.title="Neural Photo Editor: worker" \
      org.opencontainers.image.description="TorchServe with one bundle, behind the gateway"
COPY --from=build-torchserve /opt/venv /opt/venv
COPY --from=build-torchserve /app /app
EXPOSE 8085 8086
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8086, timeout=4); c.request('GET', '/ready'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["dumb-init", "--single-child", "--", "python", "-m", "serve.worker"]

FROM runtime AS gateway
LABEL org.opencontainers.image.title="Neural Photo Editor: gateway" \
      org.opencontainers.image.description="The endpoint's public face, with the browser editor"
COPY --from=build-gateway /opt/venv /opt/venv
COPY --from=build-gateway /app /app
EXPOSE 8080 8081 8082
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8081, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["dumb-init", "--single-child", "--", "python", "-m", "serve.gateway"]
