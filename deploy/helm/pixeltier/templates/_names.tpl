{{- define "pixeltier.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "pixeltier" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-pixeltier" (.Release.Name | trunc 42 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* The name is not the chart's to change: Prometheus makes its job label of it, which rules and dashboards ask for. */}}
{{- define "pixeltier.selector" -}}
app.kubernetes.io/name: pixeltier
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pixeltier.labels" -}}
{{ include "pixeltier.selector" . }}
app.kubernetes.io/part-of: pixeltier
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "pixeltier.image" -}}
{{- $tag := .Values.image.tag | default (ternary (printf "%s-cuda" .Chart.AppVersion) .Chart.AppVersion .Values.gpu.enabled) -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
