{{/* Labels only. The selector labels must never change between versions: a Deployment's selector is immutable. */}}

{{- define "toxicity-operator.selectorLabels" -}}
app.kubernetes.io/name: toxicity-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "toxicity-operator.labels" -}}
{{ include "toxicity-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
