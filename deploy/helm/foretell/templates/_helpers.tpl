{{- define "foretell.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- end -}}
{{- /* 63 characters, less the longest thing that follows: -worker-webhooks. */ -}}
{{- $name | trunc 46 | trimSuffix "-" -}}
{{- end }}

{{- define "foretell.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "foretell.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{- /* What pods are selected by, which must never change. Of one role: (dict "root" $ "role" "api"). */ -}}
{{- define "foretell.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .role }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "foretell.labels" -}}
{{ include "foretell.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* The queues that have processes for jobs, and so numbers of wanted workers. */ -}}
{{- define "foretell.scaledQueues" -}}
online batch train
{{- end }}

{{- /* Ends the rendering where values do not fit together. */ -}}
{{- define "foretell.check" -}}
{{- $v := .Values -}}
{{- if eq (empty $v.redis.url) (empty $v.redis.existingSecret) -}}
{{- fail "set redis.existingSecret to the secret that has the address of Redis, or redis.url to an address without a password" -}}
{{- end -}}
{{- if and $v.broker.url $v.broker.existingSecret -}}
{{- fail "set broker.existingSecret or broker.url, not both" -}}
{{- end -}}
{{- if eq (empty $v.storage.url) (empty $v.storage.existingClaim) -}}
{{- fail "set storage.url to s3://bucket/prefix, or storage.existingClaim to a claim that many nodes may write" -}}
{{- end -}}
{{- if and $v.redis.clientCertificate (not $v.redis.tlsSecret) -}}
{{- fail "redis.clientCertificate needs redis.tlsSecret, which has it" -}}
{{- end -}}
{{- if $v.keda.enabled -}}
{{- if and (eq $v.keda.source "prometheus") (not $v.keda.prometheusAddress) -}}
{{- fail "keda.source prometheus needs keda.prometheusAddress" -}}
{{- end -}}
{{- range $queue := splitList " " (include "foretell.scaledQueues" .) -}}
{{- $bounds := (get $v.workers $queue).autoscaling -}}
{{- if gt (int $bounds.minReplicas) (int $bounds.maxReplicas) -}}
{{- fail (printf "workers.%s.autoscaling.minReplicas must not be more than maxReplicas" $queue) -}}
{{- end -}}
{{- if and (eq (int $bounds.minReplicas) 0) (eq $v.api.readinessPath "/readyz") -}}
{{- fail (printf "with workers.%s.autoscaling.minReplicas 0 the API must not ask for a worker: set api.readinessPath to /healthz" $queue) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* The variables of a role: dict "root" $ "values" (its values) "own" (what the chart sets for it). */ -}}
{{- define "foretell.env" -}}
{{- $v := .root.Values -}}
{{- $chart := dict "FORETELL_DATA_DIR" "/var/lib/foretell" "FORETELL_DRAIN_SECONDS" (toString $v.drainSeconds) -}}
{{- with $v.redis.url }}{{ $_ := set $chart "FORETELL_REDIS_URL" . }}{{ end -}}
{{- with $v.broker.url }}{{ $_ := set $chart "FORETELL_BROKER_URL" . }}{{ end -}}
{{- with $v.storage.url }}{{ $_ := set $chart "FORETELL_STORAGE" . }}{{ end -}}
{{- with $v.storage.region }}{{ $_ := set $chart "AWS_REGION" . }}{{ end -}}
{{- with $v.storage.endpoint }}{{ $_ := set $chart "AWS_ENDPOINT_URL" . }}{{ end -}}
{{- if $v.redis.tlsSecret }}{{ $_ := set $chart "FORETELL_REDIS_CA_FILE" "/etc/foretell/redis/ca.crt" }}{{ end -}}
{{- if $v.redis.clientCertificate -}}
{{- $_ := set $chart "FORETELL_REDIS_CERT_FILE" "/etc/foretell/redis/tls.crt" -}}
{{- $_ := set $chart "FORETELL_REDIS_KEY_FILE" "/etc/foretell/redis/tls.key" -}}
{{- end -}}
{{- if $v.broker.tlsSecret }}{{ $_ := set $chart "FORETELL_BROKER_CA_FILE" "/etc/foretell/broker/ca.crt" }}{{ end -}}
{{- /* What can be set is under what is, and what follows from other values is above it. */ -}}
{{- $given := dict "FORETELL_HOST" "0.0.0.0" -}}
{{- if $v.keda.enabled -}}
{{- range $queue := splitList " " (include "foretell.scaledQueues" .root) -}}
{{- if eq (int (get $v.workers $queue).autoscaling.minReplicas) 0 }}{{ $_ := set $given "FORETELL_AUTOSCALE_MIN_PROCESSES" "0" }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $all := mergeOverwrite $given (deepCopy $v.settings) (deepCopy .values.settings) $chart .own -}}
{{- range $name, $value := $all }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with $v.redis.existingSecret }}
- name: FORETELL_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: {{ $v.redis.secretKey | quote }}}}
{{- end }}
{{- with $v.broker.existingSecret }}
- name: FORETELL_BROKER_URL
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: {{ $v.broker.secretKey | quote }}}}
{{- end }}
{{- end }}

{{- /* The Deployment of a role and its PodDisruptionBudget, all from here:
    dict "root" $, "role" api, scheduler or a queue, "name" (what its objects are called), "values" (its values), "command", "env" (what the chart
    sets for it alone), "replicas" (none: an autoscaler decides), "tag", "grace" (seconds), "port" (whether it listens), "probes" (text). */ -}}
{{- define "foretell.deployment" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $name := printf "%s-%s" (include "foretell.fullname" $root) .name -}}
{{- $labels := dict "root" $root "role" .role -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "foretell.labels" $labels | nindent 4 }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ int .replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    type: RollingUpdate
    rollingUpdate: {{- toYaml $v.rollingUpdate | nindent 6 }}
  selector:
    matchLabels: {{- include "foretell.selectorLabels" $labels | nindent 6 }}
  template:
    metadata:
      labels: {{- include "foretell.labels" $labels | nindent 8 }}
      {{- with $v.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "foretell.serviceAccountName" $root }}
      automountServiceAccountToken: false
      # Else a Service named foretell-api would become variables FORETELL_API_..., which are no settings.
      enableServiceLinks: false
      # What a killed process leaves is reaped by the sandbox's first process, as `init: true` does elsewhere.
      shareProcessNamespace: true
      terminationGracePeriodSeconds: {{ .grace }}
      securityContext: {{- toYaml $v.podSecurityContext | nindent 8 }}
      {{- with $v.image.pullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- $spread := dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" "labelSelector" (dict "matchLabels" (include "foretell.selectorLabels" $labels | fromYaml)) }}
      {{- mergeOverwrite (dict "topologySpreadConstraints" (list $spread)) (deepCopy $v.pod) (deepCopy .values.pod) | toYaml | nindent 6 }}
      containers:
        - name: {{ .role }}
          image: {{ printf "%s:%s" $v.image.repository (.tag | default $v.image.tag | default $root.Chart.AppVersion) | quote }}
          imagePullPolicy: {{ $v.image.pullPolicy }}
          command: {{ .command | toJson }}
          env: {{- include "foretell.env" (dict "root" $root "values" .values "own" .env) | trim | nindent 12 }}
          {{- with $v.storage.existingSecret }}
          envFrom:
            - secretRef: {name: {{ . | quote }}}
          {{- end }}
          {{- if .port }}
          ports:
            - {name: http, containerPort: 8000, protocol: TCP}
          {{- end }}
          {{- .probes | trim | nindent 10 }}
          resources: {{- toYaml .values.resources | nindent 12 }}
          securityContext: {{- toYaml $v.containerSecurityContext | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- if .values.sharedMemorySize }}
            - {name: shared-memory, mountPath: /dev/shm}
            {{- end }}
            - {name: data, mountPath: /var/lib/foretell}
            {{- if $v.redis.tlsSecret }}
            - {name: redis-tls, mountPath: /etc/foretell/redis, readOnly: true}
            {{- end }}
            {{- if $v.broker.tlsSecret }}
            - {name: broker-tls, mountPath: /etc/foretell/broker, readOnly: true}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: {{ .values.tmpSize | quote }}}
        {{- with .values.sharedMemorySize }}
        - name: shared-memory
          emptyDir: {medium: Memory, sizeLimit: {{ . | quote }}}
        {{- end }}
        - name: data
          {{- if $v.storage.existingClaim }}
          persistentVolumeClaim: {claimName: {{ $v.storage.existingClaim | quote }}}
          {{- else }}
          # Nothing is kept here, but the image names it as a volume.
          emptyDir: {sizeLimit: 16Mi}
          {{- end }}
        {{- with $v.redis.tlsSecret }}
        - name: redis-tls
          secret: {secretName: {{ . | quote }}, defaultMode: 0440}
        {{- end }}
        {{- with $v.broker.tlsSecret }}
        - name: broker-tls
          secret: {secretName: {{ . | quote }}, defaultMode: 0440}
        {{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "foretell.labels" $labels | nindent 4 }}
spec:
  {{- toYaml $v.podDisruptionBudget | nindent 2 }}
  selector:
    matchLabels: {{- include "foretell.selectorLabels" $labels | nindent 6 }}
{{- end }}

{{- /* Probes of a role without a port. Liveness restarts a process of which Redis knows nothing, but not since Redis is away. */ -}}
{{- define "foretell.heartbeatProbes" -}}
startupProbe:
  exec: {command: ["python", "-m", "deploy", "health", {{ . | quote }}]}
  periodSeconds: 5
  timeoutSeconds: 15
  failureThreshold: 24
readinessProbe:
  exec: {command: ["python", "-m", "deploy", "health", {{ . | quote }}]}
  periodSeconds: 30
  timeoutSeconds: 15
  failureThreshold: 2
livenessProbe:
  exec: {command: ["python", "-m", "deploy", "health", {{ . | quote }}, "--liveness"]}
  periodSeconds: 60
  timeoutSeconds: 15
  failureThreshold: 5
{{- end }}

{{- /* One rule of what may leave: dict "peers" (none: anywhere) "ports". */ -}}
{{- define "foretell.egress" -}}
- ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
  {{- with .peers }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
