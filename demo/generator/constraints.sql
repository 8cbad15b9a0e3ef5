ALTER TABLE practitioner ADD PRIMARY KEY (id), ADD UNIQUE (provider_number);
ALTER TABLE patient ADD PRIMARY KEY (id), ADD UNIQUE (record_number),
    ADD FOREIGN KEY (usual_practitioner) REFERENCES practitioner;
ALTER TABLE appointment ADD PRIMARY KEY (id), ADD UNIQUE (practitioner_id, starts),
    ADD FOREIGN KEY (patient_id) REFERENCES patient, ADD FOREIGN KEY (practitioner_id) REFERENCES practitioner;
ALTER TABLE image ADD PRIMARY KEY (id), ADD UNIQUE (path), ADD FOREIGN KEY (patient_id) REFERENCES patient;
ALTER TABLE invoice ADD PRIMARY KEY (id), ADD UNIQUE (appointment_id),
    ADD FOREIGN KEY (appointment_id) REFERENCES appointment;
ALTER TABLE letter ADD PRIMARY KEY (id), ADD UNIQUE (path), ADD FOREIGN KEY (patient_id) REFERENCES patient,
    ADD FOREIGN KEY (practitioner_id) REFERENCES practitioner;

CREATE INDEX patient_name ON patient (family_name, given_name);
CREATE INDEX appointment_starts ON appointment (starts);
CREATE INDEX appointment_recorded ON appointment (recorded_at);
CREATE INDEX appointment_patient ON appointment (patient_id);
CREATE INDEX image_patient ON image (patient_id);
CREATE INDEX invoice_unpaid ON invoice (issued) WHERE paid IS NULL;

CREATE VIEW upcoming_appointment AS
    SELECT a.id, a.starts, a.minutes, p.given_name || ' ' || p.family_name AS patient, s.name AS practitioner
    FROM appointment a JOIN patient p ON p.id = a.patient_id JOIN practitioner s ON s.id = a.practitioner_id
    WHERE a.status = 'booked';
