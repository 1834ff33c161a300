{{/* Names of a component's objects. Each takes a dict with `root` (the chart's $) and `name` (galley, mixer-policy, …). */}}

{{/* Citadel knows the control plane's services by ns/argosy-system/sa/NAME, so nothing else can be installed. */}}
{{- define "common.namespace" -}}
{{- if ne .Release.Namespace "argosy-system" -}}
{{- fail (printf "the namespace is %q: Argosy's services are known to one another by their accounts in argosy-system; install with --namespace argosy-system --create-namespace" .Release.Namespace) -}}
{{- end -}}
{{- .Release.Namespace -}}
{{- end -}}

{{/* The control plane's revision; empty for the default one. */}}
{{- define "common.revision" -}}
{{- $own := .Values.revision | default (.Values.global).revision | default "" -}}
{{- if ne $own "default" -}}{{ $own }}{{- end -}}
{{- end -}}

{{/* pilot, or pilot-canary for the revision canary, where the component has revisions. */}}
{{- define "common.name" -}}
{{- $revision := include "common.revision" .root -}}
{{- if and .revisioned $revision -}}{{ .name }}-{{ $revision }}{{- else -}}{{ .name }}{{- end -}}
{{- end -}}

{{- define "common.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ include "common.name" . }}
{{- end -}}

{{- define "common.labels" -}}
{{ include "common.selector" . }}
app.kubernetes.io/part-of: argosy
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- if .revisioned }}
istio.io/rev: {{ include "common.revision" .root | default "default" }}
{{- end }}
{{- end -}}

{{- define "common.meta" -}}
name: {{ include "common.name" . }}
namespace: {{ include "common.namespace" .root }}
labels: {{- include "common.labels" . | nindent 2 }}
{{- end -}}

{{/* An image: its own settings first, then the global ones. Takes `root`, `own` (values of one image) and `image` (the name below the hub). */}}
{{- define "common.image" -}}
{{- $global := .root.Values.global | default dict -}}
{{- $own := .own | default dict -}}
{{- $repository := $own.repository | default (printf "%s/%s" ($global.hub | default "localhost/argosy") .image) -}}
{{- if $own.digest -}}{{ $repository }}@{{ $own.digest }}
{{- else -}}{{ $repository }}:{{ $own.tag | default $global.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Takes `root` and `own`, as common.image. */}}
{{- define "common.pull" -}}
{{- with (.own).pullPolicy | default (.root.Values.global).imagePullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end -}}

{{/* The id of the mesh's identities, and the cluster's DNS domain. */}}
{{- define "common.trustDomain" -}}
{{- (.Values.global).trustDomain | default "cluster.local" -}}
{{- end -}}
{{- define "common.clusterDomain" -}}
{{- (.Values.global).clusterDomain | default "cluster.local" -}}
{{- end -}}
