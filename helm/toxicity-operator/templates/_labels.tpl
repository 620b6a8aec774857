{{/* Labels. The selector labels must never change between versions, because a Deployment's selector is immutable. */}}

{{- define "toxicity-operator.releaseLabels" -}}
app.kubernetes.io/name: toxicity-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "toxicity-operator.selectorLabels" -}}
{{ include "toxicity-operator.releaseLabels" . }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "toxicity-operator.versionLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "toxicity-operator.commonLabels" -}}
{{ include "toxicity-operator.versionLabels" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "toxicity-operator.labels" -}}
{{ include "toxicity-operator.selectorLabels" . }}
{{ include "toxicity-operator.commonLabels" . }}
{{- end }}

{{- define "toxicity-operator.podLabels" -}}
{{ include "toxicity-operator.selectorLabels" . }}
{{ include "toxicity-operator.versionLabels" . }}
{{- with mergeOverwrite (deepCopy .Values.commonLabels) .Values.operator.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of the pod of `helm test`, which no selector of the operator may match. */}}
{{- define "toxicity-operator.testLabels" -}}
{{ include "toxicity-operator.releaseLabels" . }}
app.kubernetes.io/component: test
{{ include "toxicity-operator.commonLabels" . }}
{{- end }}

{{/* Limits an admission policy binding to the watched namespaces. */}}
{{- define "toxicity-operator.watchedNamespaces" -}}
{{- with .Values.watchNamespaces -}}
matchResources:
  namespaceSelector:
    matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
{{- end }}
{{- end }}
