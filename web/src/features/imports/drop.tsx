import { useState } from "react";
import { useText } from "@/i18n";

/** Where the file of an import is dropped or chosen. */
export function Drop({
  onFile,
  accept = ".csv,.xlsx,.txt",
  hint,
}: {
  onFile: (file: File) => void;
  accept?: string;
  hint?: string;
}) {
  const { t } = useText();
  const [over, setOver] = useState(false);
  return (
    // Dropping is a second way; the file field inside is the first.
    <div
      className={`card drop ${over ? "drop-over" : ""}`}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        const [file] = event.dataTransfer.files;
        if (file) onFile(file);
      }}
    >
      <strong>{t("import.drop")}</strong>
      <p className="faint">{hint ?? t("import.dropText")}</p>
      <label className="button button-primary drop-button">
        {t("import.choose")}
        <input
          type="file"
          className="visually-hidden"
          accept={accept}
          onChange={(event) => event.target.files?.[0] && onFile(event.target.files[0])}
        />
      </label>
    </div>
  );
}
