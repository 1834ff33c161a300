{{/* What stands around a Deployment. All take the dict of common.deployment. */}}

{{- define "common.account" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .account }}
  namespace: {{ include "common.namespace" .root }}
  labels: {{- include "common.labels" (dict "root" .root "name" .account) | nindent 4 }}
automountServiceAccountToken: false
{{- end -}}

{{/* `serving` maps the Service's ports, name → number, to the pods' ports of the same names. */}}
{{- define "common.service" -}}
apiVersion: v1
kind: Service
metadata: {{- include "common.meta" . | nindent 2 }}
spec:
  selector: {{- include "common.selector" . | nindent 4 }}
  ports:
  {{- range $name, $port := .serving | default .ports }}
  - {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }}}
  {{- end }}
  - {name: http-admin, port: {{ .admin }}, targetPort: http-admin}
{{- end -}}

{{- define "common.autoscaler" -}}
{{- with .values.autoscaling }}
{{- if .enabled -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{- include "common.meta" $ | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "common.name" $ }}}
  minReplicas: {{ .minReplicas }}
  maxReplicas: {{ .maxReplicas }}
  metrics:
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ .targetCPUUtilizationPercentage }}}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "common.disruption" -}}
{{- if .values.podDisruptionBudget.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{- include "common.meta" . | nindent 2 }}
spec:
  maxUnavailable: {{ .values.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels: {{- include "common.selector" . | nindent 6 }}
{{- end }}
{{- end -}}

{{/* `callers` maps each port's name to peers that may reach it; an empty list is everybody. */}}
{{- define "common.networkPolicy" -}}
{{- if .values.networkPolicy.enabled -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{- include "common.meta" . | nindent 2 }}
spec:
  podSelector:
    matchLabels: {{- include "common.selector" . | nindent 6 }}
  policyTypes: [Ingress]
  ingress:
  {{- range $name, $port := .ports }}
  - ports: [{port: {{ $port }}}]
    {{- with get ($.callers | default dict) $name }}
    from: {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  - ports: [{port: {{ .admin }}}]
    {{- with .values.networkPolicy.metricsFrom }}
    from: {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "common.monitor" -}}
{{- with .values.serviceMonitor }}
{{- if .enabled -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "common.meta" $ | nindent 2 }}
    {{- with .labels }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  selector:
    matchLabels: {{- include "common.selector" $ | nindent 6 }}
  endpoints:
  {{- range $.pages | default (list "http-admin") }}
  - {port: {{ . }}, path: /metrics, interval: {{ $.values.serviceMonitor.interval }}}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A Deployment and all that stands around it, but for its account. */}}
{{- define "common.all" -}}
{{- range list "deployment" "service" "autoscaler" "disruption" "networkPolicy" "monitor" }}
{{- with include (printf "common.%s" .) $ | trim }}
---
{{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A pod that asks whether the service is ready: `helm test`. */}}
{{- define "common.test" -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "common.name" . }}-test
  namespace: {{ include "common.namespace" .root }}
  labels:
    {{- include "common.labels" (dict "root" .root "name" (printf "%s-test" .name) "revisioned" .revisioned) | nindent 4 }}
    sidecar.istio.io/inject: "false"
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext: {{- include "common.podSecurity" (dict) | nindent 4 }}
  {{- with .values.imagePullSecrets | default (.root.Values.global).imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 2 }}
  {{- end }}
  containers:
  - name: ready
    image: {{ include "common.image" (dict "root" .root "own" .values.testImage "image" "argosy") }}
    {{- with include "common.pull" (dict "root" .root "own" .values.testImage) | trim }}
    {{ . }}
    {{- end }}
    args: [check, --ready, "http://{{ include "common.name" . }}.{{ .root.Release.Namespace }}.svc:{{ .admin }}/readyz"]
    securityContext: {{- include "common.containerSecurity" . | nindent 6 }}
    resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
{{- end -}}
