{{/* Every resource name of the chart, one template each. */}}

{{- define "toxicity-operator.name" -}}
toxicity-operator
{{- end }}

{{- define "toxicity-operator.serviceAccount" -}}
{{ include "toxicity-operator.name" . }}
{{- end }}

{{/* Cluster-scoped names carry the namespace, so that two releases do not collide. */}}
{{- define "toxicity-operator.clusterRole" -}}
{{ .Release.Namespace }}-{{ include "toxicity-operator.name" . }}
{{- end }}
