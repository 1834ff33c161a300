{{/* What pods of all components are allowed: nothing but to run. */}}
{{- define "common.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .user | default 65532 }}
runAsGroup: {{ .user | default 65532 }}
fsGroup: {{ .user | default 65532 }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "common.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Where pods may run. Takes `root`, `values` and `name`. */}}
{{- define "common.scheduling" -}}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if .values.topologySpread.enabled }}
topologySpreadConstraints:
{{- range .values.topologySpread.keys }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: {{ $.values.topologySpread.whenUnsatisfiable }}
  labelSelector:
    matchLabels: {{- include "common.selector" $ | nindent 6 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The token that Citadel takes, and the roots that it keeps in each namespace. The pod waits until the roots are there. */}}
{{- define "common.identityVolumes" -}}
- name: citadel-token
  projected:
    sources:
    - serviceAccountToken: {audience: istio-ca, expirationSeconds: 43200, path: token}
- name: citadel-root
  configMap: {name: istio-ca-root-cert}
{{- end -}}

{{- define "common.identityMounts" -}}
- {name: citadel-token, mountPath: /var/run/secrets/citadel, readOnly: true}
- {name: citadel-root, mountPath: /var/run/secrets/root, readOnly: true}
{{- end -}}

{{- define "common.identityArgs" -}}
- --citadel-address=citadel.{{ .Release.Namespace }}.svc:8060
- --ca-root=/var/run/secrets/root/root-cert.pem
- --token=/var/run/secrets/citadel/token
- --trust-domain={{ include "common.trustDomain" . }}
{{- end -}}
