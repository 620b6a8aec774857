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

{{/* Of those who edit or view the resources of a namespace. */}}
{{- define "toxicity-operator.editRole" -}}
{{ include "toxicity-operator.clusterRole" . }}-edit
{{- end }}

{{- define "toxicity-operator.viewRole" -}}
{{ include "toxicity-operator.clusterRole" . }}-view
{{- end }}

{{- define "toxicity-operator.servingMonitor" -}}
{{ include "toxicity-operator.name" . }}-serving
{{- end }}

{{- define "toxicity-operator.dashboard" -}}
{{ include "toxicity-operator.name" . }}-dashboard
{{- end }}

{{- define "toxicity-operator.test" -}}
{{ include "toxicity-operator.name" . }}-test
{{- end }}

{{/* Of which images and Secrets a resource may reference. */}}
{{- define "toxicity-operator.referencesPolicy" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}-references
{{- end }}

{{- define "toxicity-operator.loadTestStatusPolicy" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}-load-test-status
{{- end }}
