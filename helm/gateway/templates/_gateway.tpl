{{- define "gateway.name" -}}{{ .Values.name | default .Release.Name }}{{- end -}}
{{- define "gateway.account" -}}{{ .Values.serviceAccount.name | default (include "gateway.name" .) }}{{- end -}}
{{- define "gateway.selector" -}}
app: {{ include "gateway.name" . }}
istio: {{ include "gateway.name" . | trimPrefix "istio-" }}
{{- end -}}
{{- /* ProxyConfig, as JSON: the mesh's, where a cluster is there to be asked, and the gateway's own over it. */ -}}
{{- define "gateway.proxyConfig" -}}
{{- $live := dict -}}
{{- if .Values.inheritProxyConfig -}}
{{- $live = lookup "v1" "ConfigMap" .Values.controlPlaneNamespace "istio" | default dict -}}
{{- end -}}
{{- $mesh := ($live.data | default dict).mesh | default "{}" | fromYaml -}}
{{- mergeOverwrite (deepCopy ($mesh.defaultConfig | default dict)) .Values.proxyConfig | toJson -}}
{{- end -}}
{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/name: {{ include "gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: argosy
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
