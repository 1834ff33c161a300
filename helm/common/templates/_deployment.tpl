{{/*
The Deployment of a service of the control plane. Takes a dict:
  root        the chart's $
  values      settings of this Deployment, usually .Values
  name        of the Deployment and its Service; revisioned: whether each revision has its own
  service     image and program; account: its ServiceAccount
  args        flags, a list; ports: name → number; admin: the number of the admin port
  identity    whether it gets its certificate from Citadel
  api         whether it may talk to the API server
  volumes, mounts  further ones, lists
*/}}
{{- define "common.deployment" -}}
{{- $root := .root -}}
{{- $values := .values -}}
apiVersion: apps/v1
kind: Deployment
metadata: {{- include "common.meta" . | nindent 2 }}
spec:
  {{- if not $values.autoscaling.enabled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  # A new pod is ready before an old one goes.
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector:
    matchLabels: {{- include "common.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "common.labels" . | nindent 8 }}
        # The control plane has no sidecars.
        sidecar.istio.io/inject: "false"
        {{- with $values.podLabels }}{{ toYaml . | nindent 8 }}{{ end }}
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: {{ .admin | quote }}
        prometheus.io/path: /metrics
        {{- with .checksum }}
        checksum/config: {{ . }}
        {{- end }}
        {{- with $values.podAnnotations }}{{ toYaml . | nindent 8 }}{{ end }}
    spec:
      serviceAccountName: {{ .account }}
      automountServiceAccountToken: {{ .api | default false }}
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
      securityContext: {{- include "common.podSecurity" (dict) | nindent 8 }}
      {{- with $values.imagePullSecrets | default ($root.Values.global).imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- with include "common.scheduling" . | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      containers:
      - name: {{ .service }}
        image: {{ include "common.image" (dict "root" $root "own" $values.image "image" .service) }}
        {{- with include "common.pull" (dict "root" $root "own" $values.image) | trim }}
        {{ . }}
        {{- end }}
        args:
        - --admin-address=0.0.0.0:{{ .admin }}
        - --shutdown-delay={{ $values.shutdownDelay }}
        - --log-level={{ $values.logLevel }}
        - --log-format={{ $values.logFormat }}
        {{- if .identity }}
        {{- include "common.identityArgs" $root | nindent 8 }}
        {{- end }}
        {{- range .args }}
        - {{ . | quote }}
        {{- end }}
        {{- range $values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        {{- with $values.env }}{{ toYaml . | nindent 8 }}{{ end }}
        ports:
        {{- range $name, $port := .ports }}
        - {name: {{ $name }}, containerPort: {{ $port }}}
        {{- end }}
        - {name: http-admin, containerPort: {{ .admin }}}
        readinessProbe:
          httpGet: {path: /readyz, port: http-admin}
          periodSeconds: 2
          timeoutSeconds: 3
        livenessProbe:
          httpGet: {path: /healthz, port: http-admin}
          periodSeconds: 10
          timeoutSeconds: 5
          failureThreshold: 6
        resources: {{- toYaml $values.resources | nindent 10 }}
        securityContext: {{- include "common.containerSecurity" . | nindent 10 }}
        volumeMounts:
        {{- if .identity }}
        {{- include "common.identityMounts" $root | nindent 8 }}
        {{- end }}
        {{- with .mounts }}{{ toYaml . | nindent 8 }}{{ end }}
      volumes:
      {{- if .identity }}
      {{- include "common.identityVolumes" $root | nindent 6 }}
      {{- end }}
      {{- with .volumes }}{{ toYaml . | nindent 6 }}{{ end }}
{{- end -}}
