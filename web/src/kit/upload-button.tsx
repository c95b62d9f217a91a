import { UploadOutlined } from "@ant-design/icons";
import { useRef, useState } from "react";
import { upload } from "@/api/files";
import { useText } from "@/i18n";
import { messageOf } from "./verbs";

/** Stores files of this device and gives the names of their records; what could not be stored says why. */
export function UploadButton({
  many,
  disabled = false,
  attachedTo,
  onStored,
}: {
  many: boolean;
  disabled?: boolean;
  /** The record that they hang on from the start. */
  attachedTo?: string;
  onStored: (names: string[]) => void;
}) {
  const { t } = useText();
  const input = useRef<HTMLInputElement>(null);
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState("");
  const store = async (files: File[]) => {
    setBusy(true);
    setFailure("");
    const stored: string[] = [];
    try {
      for (const file of files) stored.push(await upload(file, attachedTo));
    } catch (error) {
      setFailure(messageOf(error));
    } finally {
      setBusy(false);
      if (stored.length > 0) onStored(stored);
    }
  };
  return (
    <>
      <input
        ref={input}
        type="file"
        hidden
        multiple={many}
        onChange={(event) => {
          void store([...(event.target.files ?? [])]);
          event.target.value = "";
        }}
      />
      <button
        type="button"
        className="button"
        disabled={disabled || busy}
        onClick={() => input.current?.click()}
      >
        <UploadOutlined aria-hidden="true" /> {t(busy ? "import.uploading" : "form.upload")}
      </button>
      {failure && (
        <p className="field-error" role="alert">
          {failure}
        </p>
      )}
    </>
  );
}
